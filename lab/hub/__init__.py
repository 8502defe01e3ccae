"""Models of the Hugging Face Hub: found, looked at, fetched and checked; from then on models of this lab like any other."""

from lab.hub.listing import Listing, look
from lab.hub.pull import local_name, pull
from lab.hub.search import known, search

__all__ = ["Listing", "known", "local_name", "look", "pull", "search"]
