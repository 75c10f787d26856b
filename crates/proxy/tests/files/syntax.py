"""Parses scripts for Windows; prints, as JSON, where each is no PowerShell or no batch file: [[NAME, LINE, TEXT], ...]"""

import json
import sys
from pathlib import Path

import tree_sitter
import tree_sitter_batch
import tree_sitter_powershell

GRAMMARS = {".ps1": tree_sitter_powershell, ".cmd": tree_sitter_batch}


def faults(node):
    if node.is_error or node.is_missing:
        return [(node.start_point[0] + 1, node.text.decode(errors="replace")[:60])]
    return [fault for child in node.children for fault in faults(child)]


found = []
for name in sys.argv[1:]:
    path = Path(name)
    parser = tree_sitter.Parser(tree_sitter.Language(GRAMMARS[path.suffix].language()))
    root = parser.parse(path.read_bytes()).root_node
    found += [(path.name, *fault) for fault in faults(root)]
print(json.dumps(found))
