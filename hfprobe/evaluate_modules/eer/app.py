"""The module's page on the Hub: the card, and a form to try it. Run there; needs gradio."""

from pathlib import Path

if __name__ == "__main__":
    import evaluate
    from evaluate.utils import launch_gradio_widget

    # By file: the folder of a Space is not called as the module is.
    launch_gradio_widget(evaluate.load(str(Path(__file__).with_name("eer.py"))))
