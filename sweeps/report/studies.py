"""The studies that add to the report of their own runs; the only place where the report knows of one."""

from sweeps.report.sections import Extension
from sweeps.study import sections as cifar10

STUDIES: tuple[Extension, ...] = (cifar10.extend,)
