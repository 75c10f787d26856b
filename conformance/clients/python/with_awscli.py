import sys

from lines import answer, aws_cli

answer(lambda: sys.argv[1:], aws_cli)
