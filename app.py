"""Start the lab's page: `python app.py`, or as a Hugging Face Space."""

from lab.ui import launch

if __name__ == "__main__":
    launch()
