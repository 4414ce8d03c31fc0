"""Scenes and sensors: labelled frames without any real one."""
