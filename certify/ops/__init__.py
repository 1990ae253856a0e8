"""Operations of networks: one file for each kind, with its rules and the calls it stands for."""
