"""How long a part takes, from the bytes of its picture to the decision."""
