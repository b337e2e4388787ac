"""Settings: the only reader of environment, `.env` and YAML."""

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.settings.loading import KEYRING_SERVICE, KEYRING_WORD, Loaded, examine, find_data_dir, load
from mt5_bridge.settings.model import Settings
from mt5_bridge.settings.names import SPECS, Spec
from mt5_bridge.settings.places import prepare_data_dir, user_data_dir
from mt5_bridge.settings.secret import SecretStr, is_guessable, without_password

__all__ = [
    "KEYRING_SERVICE",
    "KEYRING_WORD",
    "SPECS",
    "Loaded",
    "SecretStr",
    "Settings",
    "SettingsError",
    "Spec",
    "examine",
    "find_data_dir",
    "is_guessable",
    "load",
    "prepare_data_dir",
    "user_data_dir",
    "without_password",
]
