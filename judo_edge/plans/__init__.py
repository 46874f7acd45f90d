"""TensorRT plans: the environments they are bound to, their profiles, and their sealed files.

Imports neither TensorRT nor ONNX; `export/tensorrt` makes plans, the runtime's engine opens them.
"""

from judo_edge.plans.environment import Backend, Environment, current_environment, current_platform
from judo_edge.plans.gpu import Gpu, gpu_of_driver
from judo_edge.plans.key import key_of_user
from judo_edge.plans.profiles import (
    DEFAULT_TOKENS,
    Profile,
    Range,
    decoder_profiles,
    fixed_sizes,
    profiles_of,
    shapes_in,
)
from judo_edge.plans.rows import ROWS, Row, check_environment
from judo_edge.plans.store import Plan, PlanHeader, PlanStore, PlanWriter, plan_path, plans_folder

__all__ = [
    "DEFAULT_TOKENS",
    "ROWS",
    "Backend",
    "Environment",
    "Gpu",
    "Plan",
    "PlanHeader",
    "PlanStore",
    "PlanWriter",
    "Profile",
    "Range",
    "Row",
    "check_environment",
    "current_environment",
    "current_platform",
    "decoder_profiles",
    "fixed_sizes",
    "gpu_of_driver",
    "key_of_user",
    "plan_path",
    "plans_folder",
    "profiles_of",
    "shapes_in",
]
