"""A NotImplementedError of a function of the user. Should: pass. Does: point to Awkward's own issues.

Seen with awkward 2.14.0: so does every AssertionError, and where the error was is no longer told.
"""

import awkward as ak


def of_the_user(layout, **_):
    raise NotImplementedError("my own function is not finished")


try:
    ak.transform(of_the_user, ak.Array([1.0]))
except NotImplementedError as error:
    notes = "".join(getattr(error, "__notes__", ())).strip()
print(f"gave the note {notes!r}, should give none of that kind")
if "awkward/issues" not in notes:
    raise SystemExit("mended: no pointer to Awkward's issues")
