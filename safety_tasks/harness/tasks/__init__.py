"""The YAML files that lm_eval reads; a package so that the ``lm_eval.tasks`` entry point can name it."""
