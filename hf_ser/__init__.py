"""Speech emotion recognition from audio and text, on the Hugging Face stack.

Importing any module of this package first checks that the installed libraries are not older than it needs.
"""

from hf_ser.versions import check_versions

check_versions()
