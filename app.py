"""Start the lab's page: `python app.py`, or as a Hugging Face Space."""

from lab import space
from lab.borrowed import gradio

if __name__ == "__main__":
    space.arrive()  # before anything imports gradio or torch
    gradio()  # before the page imports it
    from lab.ui import launch

    launch()
