"""Lists of the classes that inherit the laws: whoever adds a class adds one line here.

Each list is read by the test module that states its laws.
"""
