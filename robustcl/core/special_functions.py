"""Hold the functions of scipy.special that are used here; SciPy is loaded when one is called."""

from robustcl.core.lazy import lazy_function

betaincinv = lazy_function("scipy.special", "betaincinv")
logsumexp = lazy_function("scipy.special", "logsumexp")
ndtr = lazy_function("scipy.special", "ndtr")
ndtri = lazy_function("scipy.special", "ndtri")
