"""A picture of a graph as plain data, and as text: DOT and Mermaid. Needs nothing installed."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["EDGES", "STYLES", "Box", "Picture"]

#: role -> (colour, shape, what it is); shapes tell roles apart without colour.
STYLES = {
    "source": ("#cfe3f7", "cylinder", "reads data"),
    "value": ("#ececec", "box", "the value"),
    "seed": ("#ffe08a", "house", "puts a tangent or cotangent in"),
    "tangent": ("#f7b6a1", "octagon", "value and tangent together"),
    "forward": ("#c9e5b5", "box3d", "forward: the value, and what its transpose needs"),
    "adjoint": ("#c9b8e8", "invtrapezium", "cotangents, backwards"),
    "sum": ("#e3daf5", "invtriangle", "adds cotangents"),
    "primal": ("#dcdcdc", "note", "reads values out of pairs"),
    "result": ("#f08060", "doubleoctagon", "takes the result out"),
}

#: what travels -> how its edge looks in DOT, and in Mermaid; line styles tell them apart without colour.
EDGES = {
    "value": ('color="#444444"', "-->"),
    "tangent": ('color="#d9480f", style=bold, arrowhead=vee', "==>"),
    "residual": ('color="#2b8a3e", style=dashed, arrowhead=empty', "-.->"),
    "cotangent": ('color="#6741d9", style=dotted, penwidth=2, arrowhead=onormal', "--o"),
}


@dataclass(frozen=True)
class Box:
    """A layer or an operation."""

    label: str
    role: str
    tooltip: str = ""


@dataclass
class Picture:
    """Boxes by key, clusters (title, keys of boxes), and edges (from, to, what travels)."""

    boxes: dict[str, Box] = field(default_factory=dict)
    clusters: list[tuple[str, list[str]]] = field(default_factory=list)
    edges: list[tuple[str, str, str]] = field(default_factory=list)

    def connect(self, start: str, end: str, travels: str) -> None:
        if (start, end, travels) not in self.edges:
            self.edges.append((start, end, travels))

    def _ids(self) -> dict[str, str]:
        return {key: f"n{i}" for i, key in enumerate(self.boxes)}

    def dot(self) -> str:
        """The picture in Graphviz's language."""
        ids = self._ids()
        lines = ["digraph {", "  rankdir=BT", '  node [style=filled, fontname="Helvetica", fontsize=11]']
        for key, box in self.boxes.items():
            colour, shape, meaning = STYLES[box.role]
            tooltip = _quoted(box.tooltip or meaning)
            look = f'fillcolor="{colour}", shape={shape}, tooltip={tooltip}'
            lines.append(f"  {ids[key]} [label={_quoted(box.label)}, {look}]")
        for i, (title, keys) in enumerate(self.clusters):
            members = "; ".join(ids[key] for key in keys)
            frame = 'style=rounded; color="#888888"; fontname="Helvetica"; fontsize=10'
            lines.append(f"  subgraph cluster_{i} {{ label={_quoted(title)}; {frame}; {members} }}")
        for start, end, travels in self.edges:
            lines.append(f"  {ids[start]} -> {ids[end]} [{EDGES[travels][0]}]")
        return "\n".join([*lines, "}"])

    def mermaid(self) -> str:
        """The picture in Mermaid's language, for Markdown pages."""
        ids = self._ids()
        inside = {key for _, keys in self.clusters for key in keys}
        lines = ["flowchart BT"]
        lines += [self._mermaid_box(ids, key, "  ") for key in self.boxes if key not in inside]
        for i, (title, keys) in enumerate(self.clusters):
            lines.append(f"  subgraph s{i} [{_quoted(title)}]")
            lines += [self._mermaid_box(ids, key, "    ") for key in keys]
            lines.append("  end")
        lines += [f"  {ids[start]} {EDGES[travels][1]} {ids[end]}" for start, end, travels in self.edges]
        roles = dict.fromkeys(box.role for box in self.boxes.values())
        lines += [f"  classDef {role} fill:{STYLES[role][0]}" for role in roles]
        return "\n".join(lines)

    def _mermaid_box(self, ids: dict[str, str], key: str, indent: str) -> str:
        box = self.boxes[key]
        return f"{indent}{ids[key]}[{_quoted(box.label, newline='<br>')}]:::{box.role}"


def _quoted(text: str, newline: str = "\\n") -> str:
    return '"' + text.replace('"', "'").replace("\n", newline) + '"'
