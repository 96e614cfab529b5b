"""Training of recognisers with ESPnet's own trainer on Hugging Face streams."""
