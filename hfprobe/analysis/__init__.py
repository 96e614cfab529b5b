"""What is done with encoders and probes: conditions, reconstruction, evaluation, recognition."""
