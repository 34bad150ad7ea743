"""How long a whole rewrite of the resident candidate takes, against the memory bandwidth and against mergekit."""
