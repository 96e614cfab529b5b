"""The notebook runs from top to bottom in a kernel and shows a player for every layer."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebooks" / "hear-the-layers.ipynb"
nbformat = pytest.importorskip("nbformat", reason="reads notebooks; install the extra 'test'")


@pytest.fixture(scope="module")
def notebook():
    found = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(found)
    return found


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_stored_without_outputs(notebook):
    """Sound in a cell is megabytes in the repository."""
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(notebook))


def test_it_runs_and_has_a_player_for_every_layer(notebook, tmp_path, monkeypatch):
    client = pytest.importorskip("nbclient", reason="runs notebooks; install the extra 'test'")
    pytest.importorskip("ipykernel", reason="runs notebooks; install the extra 'test'")
    for name, value in {"HFPROBE_DATA": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    for folder in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):  # not this user's own
        monkeypatch.setenv(folder, str(tmp_path / folder))
    client.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in code_cells(notebook) for output in cell.outputs]
    players = [out for out in shown if "<audio" in "".join(out.get("data", {}).get("text/html", ""))]
    titles = [out.data["text/markdown"] for out in shown if "text/markdown" in out.get("data", {})]
    assert titles == [f"**{name}**" for name in ("ceiling", "blstm1", "blstm2", "blstm3", "blstm4", "blstm5")]
    assert len(players) == 1 + len(titles)  # the voice itself, then what each layer keeps
    assert any("image/png" in out.get("data", {}) for out in shown), "no curve was drawn"
    printed = "".join(out.text for out in shown if out.output_type == "stream" and out.name == "stdout")
    assert "blstm5: 128 wide, a frame each 80 ms" in printed and "it reads:" in printed
