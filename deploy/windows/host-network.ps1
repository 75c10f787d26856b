#Requires -Version 5.1
#Requires -RunAsAdministrator
<#
.SYNOPSIS
Lets Windows containers on a nat network reach the credential proxy of this host at http://169.254.170.2.

.DESCRIPTION
Up does four things, each of them again if it is not as it should be; it may be run as often as one likes:
  1. 169.254.170.2/32 on the host's own adapter of the nat switch;
  2. a port proxy of IP Helper from 169.254.170.2:80 to 127.0.0.1:51679, where taskcreds listens;
  3. firewall rules that let in, on that adapter alone, what 1 and 2 need;
  4. a scheduled task that does 1 to 3 again at every start of the machine.
Down takes away all four. Status tells what is missing and ends with 1 then.

Each container needs routes too: container-routes.ps1 or container-routes.cmd. Nothing of this is needed with awsvpc.

.EXAMPLE
.\host-network.ps1 Up
.EXAMPLE
.\host-network.ps1 Up -Network my-nat
.EXAMPLE
.\host-network.ps1 Down
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory, Position = 0)]
    [ValidateSet('Up', 'Down', 'Status')]
    [string] $Action,

    # The container network, as `docker network ls` names it. Its adapter on the host is "vEthernet (NAME)".
    [ValidatePattern('^[A-Za-z0-9][A-Za-z0-9 _.-]*$')]
    [string] $Network = 'nat',

    # Where taskcreds listens on 127.0.0.1.
    [ValidateRange(1, 65535)]
    [int] $Port = 51679,

    # How long to wait for the adapter: at the start of the machine it comes with the container service.
    [ValidateRange(0, 3600)]
    [int] $WaitSeconds = 120,

    # Do not have it done again at every start of the machine.
    [switch] $NoScheduledTask
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$Address = '169.254.170.2'
$Adapter = "vEthernet ($Network)"
$TaskName = 'taskcreds-network'
$RuleGroup = 'taskcreds'
# A folder that only administrators can write: the scheduled task runs what is in it as SYSTEM.
$Folder = Join-Path $env:ProgramFiles 'taskcreds'
$Installed = Join-Path $Folder 'host-network.ps1'

function Stop-With([string] $Message) {
    [Console]::Error.WriteLine("host-network.ps1: $Message")
    exit 1
}

function Get-OwnAddress {
    Get-NetIPAddress -AddressFamily IPv4 -IPAddress $Address -ErrorAction SilentlyContinue
}

function Get-PortProxy {
    # netsh is all there is for port proxies. Its rows are LISTEN-ADDRESS LISTEN-PORT ADDRESS PORT, whatever language its heads are in.
    foreach ($line in (& netsh.exe interface portproxy show v4tov4)) {
        $row = @($line.Trim() -split '\s+')
        if ($row.Count -eq 4 -and $row[0] -eq $Address -and $row[1] -eq '80') {
            return "$($row[2]):$($row[3])"
        }
    }
    return $null
}

function Remove-PortProxy {
    if ($null -ne (Get-PortProxy)) {
        & netsh.exe interface portproxy delete v4tov4 listenaddress=$Address listenport=80 | Out-Null
        if ($LASTEXITCODE -ne 0) {
            Stop-With "netsh cannot delete the port proxy of ${Address}:80 (status $LASTEXITCODE)"
        }
    }
}

function Wait-Adapter {
    $deadline = (Get-Date).AddSeconds($WaitSeconds)
    while ($true) {
        $found = Get-NetAdapter -Name $Adapter -IncludeHidden -ErrorAction SilentlyContinue
        if ($found) {
            return $found
        }
        if ((Get-Date) -ge $deadline) {
            $there = @(Get-NetAdapter -IncludeHidden | Where-Object Name -Like 'vEthernet (*' | ForEach-Object Name)
            Stop-With ("there is no adapter '$Adapter' after $WaitSeconds s; there are: $($there -join ', '). " +
                'Is the container service running, and is -Network the name of a nat network (docker network ls)?')
        }
        Start-Sleep -Seconds 2
    }
}

function Set-Address($Found) {
    $own = Get-OwnAddress
    if ($own -and $own.InterfaceIndex -ne $Found.ifIndex) {
        # As after a reboot: the switch was made anew, and the address is left on an adapter that is no more in use.
        Remove-NetIPAddress -IPAddress $Address -Confirm:$false
        $own = $null
    }
    if (-not $own) {
        # ActiveStore: gone with a reboot, after which the scheduled task adds it to the adapter that there is then.
        # SkipAsSource: the host itself goes on to speak from its other addresses.
        New-NetIPAddress -InterfaceIndex $Found.ifIndex -IPAddress $Address -PrefixLength 32 -SkipAsSource $true -PolicyStore ActiveStore | Out-Null
    }
    # IP Helper cannot listen on an address that is still tentative.
    for ($try = 0; $try -lt 30 -and (Get-OwnAddress).AddressState -ne 'Preferred'; $try++) {
        Start-Sleep -Milliseconds 500
    }
    $state = (Get-OwnAddress).AddressState
    if ($state -ne 'Preferred') {
        Stop-With "$Address on '$Adapter' is $state and not Preferred: does another machine or adapter have it too?"
    }
}

function Set-PortProxy {
    $service = Get-Service -Name iphlpsvc
    if ($service.StartType -eq 'Disabled') {
        Stop-With 'the service IP Helper (iphlpsvc), which serves port proxies, is disabled: Set-Service iphlpsvc -StartupType Automatic'
    }
    if ($service.Status -ne 'Running') {
        Start-Service -Name iphlpsvc
    }
    $helper = (Get-CimInstance -ClassName Win32_Service -Filter "Name = 'iphlpsvc'").ProcessId
    $taken = Get-NetTCPConnection -State Listen -LocalPort 80 -ErrorAction SilentlyContinue |
        Where-Object { $_.OwningProcess -ne $helper -and $_.LocalAddress -in $Address, '0.0.0.0', '::' }
    if ($taken) {
        $names = @($taken | ForEach-Object { "process $($_.OwningProcess) on $($_.LocalAddress)" } | Sort-Object -Unique)
        Stop-With ("port 80 is taken by $($names -join ', '), and containers cannot ask another one: stop it, or have it listen on " +
            'one address (netsh http add iplisten for IIS and everything else that listens by http.sys, which is process 4)')
    }
    # Always made anew: one that was there before the address was does not listen.
    Remove-PortProxy
    & netsh.exe interface portproxy add v4tov4 listenaddress=$Address listenport=80 connectaddress=127.0.0.1 connectport=$Port | Out-Null
    if ($LASTEXITCODE -ne 0) {
        Stop-With "netsh cannot add the port proxy from ${Address}:80 to 127.0.0.1:$Port (status $LASTEXITCODE)"
    }
}

function Set-Rules {
    # By the adapter, so that no neighbour of the host is let in; taskcreds itself listens on 127.0.0.1 alone.
    Remove-Rules
    foreach ($local in 80, $Port) {
        New-NetFirewallRule -Name "taskcreds-$local" -DisplayName "taskcreds: containers, TCP $local" -Group $RuleGroup `
            -Direction Inbound -Action Allow -Protocol TCP -LocalPort $local -InterfaceAlias $Adapter -Profile Any | Out-Null
    }
}

function Remove-Rules {
    Get-NetFirewallRule -Group $RuleGroup -ErrorAction SilentlyContinue | Remove-NetFirewallRule
}

function Set-Task {
    if ($PSCommandPath -ne $Installed) {
        New-Item -ItemType Directory -Path $Folder -Force | Out-Null
        Copy-Item -LiteralPath $PSCommandPath -Destination $Installed -Force
    }
    $arguments = "-NoProfile -NonInteractive -ExecutionPolicy Bypass -File `"$Installed`" Up -Network `"$Network`" -Port $Port -WaitSeconds 600 -NoScheduledTask"
    # 600 s: after a start of the machine the adapter comes when the container service has begun.
    $run = New-ScheduledTaskAction -Execute 'powershell.exe' -Argument $arguments
    $when = New-ScheduledTaskTrigger -AtStartup
    $who = New-ScheduledTaskPrincipal -UserId 'SYSTEM' -LogonType ServiceAccount -RunLevel Highest
    $how = New-ScheduledTaskSettingsSet -RestartCount 3 -RestartInterval (New-TimeSpan -Minutes 1) -ExecutionTimeLimit (New-TimeSpan -Hours 1)
    Register-ScheduledTask -TaskName $TaskName -Action $run -Trigger $when -Principal $who -Settings $how -Force | Out-Null
}

function Remove-Task {
    Get-ScheduledTask -TaskName $TaskName -ErrorAction SilentlyContinue | Unregister-ScheduledTask -Confirm:$false
    if (Test-Path -LiteralPath $Installed) {
        Remove-Item -LiteralPath $Installed
    }
}

function Get-Missing {
    $found = Get-NetAdapter -Name $Adapter -IncludeHidden -ErrorAction SilentlyContinue
    $own = Get-OwnAddress
    if (-not $found) {
        "there is no adapter '$Adapter'"
    } elseif (-not $own -or $own.InterfaceIndex -ne $found.ifIndex) {
        "$Address is not on '$Adapter'"
    }
    $to = Get-PortProxy
    if ($to -ne "127.0.0.1:$Port") {
        $now = if ($to) { "leads to $to" } else { 'has no port proxy' }
        "${Address}:80 $now and should lead to 127.0.0.1:$Port"
    }
    if ((Get-Service -Name iphlpsvc).Status -ne 'Running') {
        'the service IP Helper (iphlpsvc) does not run'
    }
    foreach ($local in 80, $Port) {
        if (-not (Get-NetFirewallRule -Name "taskcreds-$local" -ErrorAction SilentlyContinue)) {
            "there is no firewall rule taskcreds-$local"
        }
    }
    if (-not $NoScheduledTask -and -not (Get-ScheduledTask -TaskName $TaskName -ErrorAction SilentlyContinue)) {
        "there is no scheduled task $TaskName"
    }
}

switch ($Action) {
    'Up' {
        Set-Address (Wait-Adapter)
        Set-Rules
        Set-PortProxy
        if (-not $NoScheduledTask) {
            Set-Task
        }
        Write-Output "containers on '$Network' reach 127.0.0.1:$Port at http://$Address once they have a route: container-routes.ps1"
    }
    'Down' {
        # The task first, or a start of the machine in between would bring back the rest.
        Remove-Task
        Remove-PortProxy
        Remove-Rules
        if (Get-OwnAddress) {
            Remove-NetIPAddress -IPAddress $Address -Confirm:$false
        }
        Write-Output 'the address, the port proxy, the firewall rules and the scheduled task are gone'
    }
    'Status' {
        $missing = @(Get-Missing)
        if ($missing.Count -gt 0) {
            $missing | ForEach-Object { [Console]::Error.WriteLine("missing: $_") }
            Stop-With "not set up; run: .\host-network.ps1 Up -Network '$Network' -Port $Port"
        }
        Write-Output "containers on '$Network' reach 127.0.0.1:$Port at http://$Address"
    }
}
