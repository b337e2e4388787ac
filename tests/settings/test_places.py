"""The user's data folder, and whether the bridge may write in it."""

import errno
import sys
from pathlib import Path

import pytest

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.settings import Settings, prepare_data_dir, user_data_dir


def test_each_platform_has_its_folder() -> None:
    assert user_data_dir({"LOCALAPPDATA": "L"}, "win32") == Path("L/mt5-bridge")
    assert user_data_dir({}, "win32") == Path.home() / "AppData/Local/mt5-bridge"
    assert user_data_dir({}, "darwin") == Path.home() / "Library/Application Support/mt5-bridge"
    assert user_data_dir({"XDG_DATA_HOME": "x"}, "linux") == Path("x/mt5-bridge")
    assert user_data_dir({}, "linux") == Path.home() / ".local/share/mt5-bridge"


def test_everything_lies_in_the_data_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    paths = settings.journal_path, settings.latch_path, settings.control_path, settings.stop_file
    assert {path.parent for path in paths} == {tmp_path}


def test_the_folder_is_made_and_leaves_no_probe_behind(tmp_path: Path) -> None:
    folder = prepare_data_dir(tmp_path / "a" / "b")
    assert prepare_data_dir(folder) == folder
    assert list(folder.iterdir()) == []
    if sys.platform != "win32":
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_file_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"DATA_DIR: .* cannot be written \(.*\); make it writable"):
        prepare_data_dir(tmp_path / "file" / "data")


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(dir: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(SettingsError, match="No space left on device"):
        prepare_data_dir(tmp_path)
