"""The version of the JSON that programs read: every object that is printed or served carries it as `schema`.

The rule: a key that goes, or means something else, raises the version; a new key does not.
"""

SCHEMA = 1
