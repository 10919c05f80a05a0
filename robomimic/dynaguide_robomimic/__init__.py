"""The guided diffusion policy, in robomimic's file formats."""
