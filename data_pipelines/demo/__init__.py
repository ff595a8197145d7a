"""The demo corpus: SYNTHETIC clips by forward kinematics, with texts that are true of them.

`motions` is the library of part motions, `recipes` combines them into classes, `wording` describes
a recipe in words, `kinematics` moves a body, `generate` films it.
"""
