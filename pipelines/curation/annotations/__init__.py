"""Annotations: what the published files of a data set say of its videos, a module for each format.

`formats.FORMATS` names them; `sheets.Sheets` opens those of a source.
"""
