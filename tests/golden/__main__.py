"""Proves that a method is the reference's: compares it with tensors that the reference produced.

python -m tests.golden FILE.safetensors
"""

from tests.golden.check import main

if __name__ == "__main__":
    main()
