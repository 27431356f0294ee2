"""Stage weights: has a file of weights new content?"""
