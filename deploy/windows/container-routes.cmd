@echo off
rem In a Windows container on a nat network: leads 169.254.170.2, where SDKs ask for credentials, to the host.
rem
rem For images without PowerShell, as nanoserver. To be run at the start of the container, before the program, by a user that may change
rem routes (ContainerAdministrator):
rem
rem   ENTRYPOINT ["cmd.exe", "/c", "C:\\container-routes.cmd && C:\\program.exe"]
rem
rem Windows takes 169.254.0.0/16 for a network of each adapter itself, so it would look for 169.254.170.2 among its neighbours; a route for
rem the one address through the gateway comes before that. Run again it does no harm. Not needed with awsvpc.
rem
rem "container-routes.cmd metadata" leads 169.254.169.254 to the host too. It gives the container the INSTANCE's role and all that
rem instance metadata tells: only for programs that cannot do without, as for their region, where AWS_REGION would do.
setlocal enableextensions

if not "%~1"=="" if /i not "%~1"=="metadata" (
    echo container-routes.cmd: the one argument there is, is metadata 1>&2
    exit /b 1
)

rem A row of the table is DESTINATION NETMASK GATEWAY INTERFACE METRIC; the words around it differ with the language, 0.0.0.0 does not.
set "gateway="
for /f "tokens=1-3" %%a in ('route.exe print -4 0.0.0.0') do (
    if not defined gateway if "%%a"=="0.0.0.0" if "%%b"=="0.0.0.0" set "gateway=%%c"
)
if not defined gateway (
    echo container-routes.cmd: there is no default route, so no gateway leads to the host: is the container on a nat network? 1>&2
    exit /b 1
)

call :lead 169.254.170.2 || exit /b 1
if /i "%~1"=="metadata" (
    call :lead 169.254.169.254 || exit /b 1
)
exit /b 0

:lead
rem Taken away first, so that one through a gateway of before does not stay beside it; there may be none.
route.exe delete %1 mask 255.255.255.255 >nul 2>&1
route.exe add %1 mask 255.255.255.255 %gateway% >nul
rem route.exe ends with 0 even where it may not do what it was asked to: what counts is what is there.
route.exe print -4 %1 | findstr.exe /c:"%gateway%" >nul
if errorlevel 1 (
    echo container-routes.cmd: no route to %1 by %gateway%: only ContainerAdministrator may add routes, USER in the Dockerfile 1>&2
    exit /b 1
)
exit /b 0
