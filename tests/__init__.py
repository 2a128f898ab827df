"""Tests; a package, as dependencies install one of the same name, which would hide a folder without this file."""
