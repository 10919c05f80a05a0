"""The CALVIN play table: simulator, scripted play, behaviour detector."""
