"""The table of attacks. A new one is a file here and a name in this table."""

from lab.attacks.baddiffusion import BadDiffusion
from lab.attacks.badnets import BadNets
from lab.attacks.base import Attack, Batch, NoAttack
from lab.variants import Registry

ATTACKS: Registry[Attack] = Registry("attack", BadDiffusion, BadNets, NoAttack)

__all__ = ["ATTACKS", "Attack", "BadDiffusion", "BadNets", "Batch", "NoAttack"]
