"""What this machine has, what is missing, whether it fits together, and what to type."""

from d2export.doctor.examination import examine
from d2export.doctor.finding import Findings
from d2export.doctor.machine import machine
from d2export.doctor.text import report_text

__all__ = ["Findings", "examine", "machine", "report_text"]
