@echo off
rem MT5 Bridge for a double click. Everything is checked and done by scripts\start_bridge.py.
rem     start_bridge.bat [hybrid^|standard^|demo]
setlocal
title MT5 Bridge
cd /d "%~dp0"

py -3 --version >nul 2>&1
if not errorlevel 1 goto launcher
python -c "import sys; sys.exit(sys.version_info[0] != 3)" >nul 2>&1
if not errorlevel 1 goto python

echo Python was not found. Install Python 3.11 or later, 64 bit, from python.org
echo and tick "Add python.exe to PATH" in the installer. Then start this again.
set CODE=2
goto failed

:launcher
py -3 scripts\start_bridge.py %*
set CODE=%ERRORLEVEL%
goto ended

:python
python scripts\start_bridge.py %*
set CODE=%ERRORLEVEL%

:ended
if "%CODE%"=="0" goto done

:failed
echo.
echo The bridge is not running (code %CODE%). The reason stands above.
pause

:done
exit /b %CODE%
