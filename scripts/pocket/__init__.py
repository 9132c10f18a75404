"""How the pocket model is trained; `train_pocket.py` is the command."""
