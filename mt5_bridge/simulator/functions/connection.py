"""The package's functions that connect, and show program and account."""

from typing import Any

from mt5_bridge.simulator.functions import arguments as a
from mt5_bridge.simulator.functions import views
from mt5_bridge.simulator.functions.arguments import ArgumentError
from mt5_bridge.simulator.functions.pipe import Pipe
from mt5_bridge.simulator.functions.queries import credentials
from mt5_bridge.simulator.structs import AccountInfo, TerminalInfo


class Connection(Pipe):
    """`initialize`, `login`, `shutdown`, `version`, `terminal_info`, `account_info`."""

    def initialize(self, *args: Any, **kwargs: Any) -> bool:
        if len(args) > 1:
            raise ArgumentError("Invalid number of arguments")
        if args:
            a.text(args[0], "Invalid 1st unnamed argument", limit=a.MAX_PATH)
        login, password, server = credentials(kwargs)
        if "path" in kwargs:
            a.text(kwargs["path"], 'Invalid "path" argument', limit=a.MAX_PATH)
        self.books.clear()
        self.terminal.initialize(login, password, server)
        return True

    def login(self, *args: Any, **kwargs: Any) -> bool:
        if len(args) > 3:
            raise ArgumentError("Invalid number of arguments")
        login = password = server = None
        if args:
            login = a.python_int(args[0], "Invalid 1st unnamed argument")
        if len(args) > 1:
            password = a.text(args[1], "Invalid 2nd unnamed argument", limit=a.MAX_SECRET)
        if len(args) > 2:
            server = a.text(args[2], "Invalid 3rd unnamed argument", limit=a.MAX_SECRET)
        if kwargs:
            named = credentials(kwargs)
            login = named[0] if "login" in kwargs else login
            password, server = named[1] or password, named[2] or server
        if not login:
            raise ArgumentError('Invalid "login" argument')
        self.terminal.login(login, password or None, server)
        return True

    def shutdown(self) -> bool:
        self.terminal.shutdown()
        return True

    def version(self) -> tuple[int, int, str]:
        self.terminal.require_session()
        return 500, views.BUILD + self.terminal.updates, views.BUILD_DATE

    def terminal_info(self) -> TerminalInfo:
        self.terminal.require_session()
        return views.terminal_info(self.terminal)

    def account_info(self) -> AccountInfo:
        session, _ = self.terminal.synced()
        return views.account_info(self.terminal, session, session.login)
