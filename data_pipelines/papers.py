"""The origin of a part: a dataset, an encoder, a method."""

from typing import NamedTuple


class Paper(NamedTuple):
    """A publication.

    Attributes:
      title: in short, "Cheng et al., CVPR 2020".
      link: https address; empty for the project's own parts.
    """

    title: str
    link: str = ""


THIS_PROJECT = Paper("this project")
