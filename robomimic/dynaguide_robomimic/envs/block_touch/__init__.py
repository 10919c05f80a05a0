"""BlockTouch: an agent in the plane touches one of four coloured squares (paper, appendices A.1 and B.4)."""
