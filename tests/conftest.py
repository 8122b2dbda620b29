"""What all tests share: threads that wait without spinning.

The networks of the tests are tiny, so that handing their work to several threads costs more than it
saves; beside other work on the machine it costs minutes. Must be set before PyTorch is imported.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
