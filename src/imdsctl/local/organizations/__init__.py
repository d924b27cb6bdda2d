"""AWS Organizations of the local AWS: the tree, its accounts, and the policies that bind them.

Source: AWS Organizations API Reference and User Guide. `state.py` is what is remembered, `operations.py` joins the
rooms. Nothing is imported here: the world holds the state, and the rooms know the world.
"""
