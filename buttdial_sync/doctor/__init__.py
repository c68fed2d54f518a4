"""
The doctor: seven stages from the configuration to a person's answer, and what to do at each fault.

``run_diagnostic``, ``DoctorReport`` and ``DoctorStage`` are names of :mod:`buttdial_sync` too.
"""

from buttdial_sync.doctor.diagnosis import diagnose as diagnose
from buttdial_sync.doctor.diagnosis import run_diagnostic as run_diagnostic
from buttdial_sync.doctor.remediation import FAULTS as FAULTS
from buttdial_sync.doctor.remediation import Fault as Fault
from buttdial_sync.doctor.stages import STAGES as STAGES
from buttdial_sync.doctor.stages import failed_configuration as failed_configuration
