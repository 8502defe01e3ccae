"""Start the lab's page: `python app.py`, or as a Hugging Face Space."""

from lab import space

if __name__ == "__main__":
    space.arrive()  # before anything imports gradio or torch
    from lab.ui import launch

    launch()
