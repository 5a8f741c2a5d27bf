"""Workers: several processes that measure one landscape, each with the whole model, on this machine or a Ray cluster.

The process that measures has the model already and takes part, so that no card holds two. It visits the points in
their order and alone writes the journal and judges; workers take the points that it has not reached. A worker loads
the model itself and answers nothing before its identity equals this process's.
"""
