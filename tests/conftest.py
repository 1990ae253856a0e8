"""Give every test process one thread: two workers with two threads each wait for one another."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import torch

torch.set_num_threads(1)
