"""robovae_envs: fast, well-framed camera frames from Gymnasium environments."""
