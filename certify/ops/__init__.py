"""Operations: what bounds need to know of each kind of layer."""
