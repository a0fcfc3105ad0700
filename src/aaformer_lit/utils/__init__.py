"""What any module may need: whole files, versions of the environment, selections, words."""
