"""The tasks in lm-evaluation-harness: the only code of the project that imports lm_eval."""
