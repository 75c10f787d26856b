<#
.SYNOPSIS
In a Windows container on a nat network: leads 169.254.170.2, where SDKs ask for credentials, to the host.

.DESCRIPTION
To be run at the start of the container, before the program, by a user that may change routes (ContainerAdministrator):

  ENTRYPOINT ["powershell.exe", "-NoProfile", "-Command", "$ErrorActionPreference = 'Stop'; C:\\container-routes.ps1; if ($LASTEXITCODE) { exit $LASTEXITCODE }; & C:\\program.exe; exit $LASTEXITCODE"]

Windows takes 169.254.0.0/16 for a network of each adapter itself, so it would look for 169.254.170.2 among its neighbours; a route for the one
address through the gateway comes before that. Run again it changes nothing. Not needed with awsvpc.
#>
[CmdletBinding()]
param(
    # Lead 169.254.169.254 to the host too. It gives the container the INSTANCE's role and all that instance metadata tells: only for
    # programs that cannot do without, as for their region, where AWS_REGION would do.
    [switch] $InstanceMetadata
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

function Stop-With([string] $Message) {
    [Console]::Error.WriteLine("container-routes.ps1: $Message")
    exit 1
}

# The way out with the lowest cost, as Windows itself would choose it.
$way = Get-NetRoute -AddressFamily IPv4 -DestinationPrefix '0.0.0.0/0' -ErrorAction SilentlyContinue |
    Where-Object NextHop -NE '0.0.0.0' |
    Sort-Object { $_.RouteMetric + $_.InterfaceMetric } |
    Select-Object -First 1
if (-not $way) {
    Stop-With 'there is no default route, so no gateway leads to the host: is the container on a nat network?'
}

$addresses = @('169.254.170.2')
if ($InstanceMetadata) {
    $addresses += '169.254.169.254'
}
foreach ($address in $addresses) {
    $there = Get-NetRoute -AddressFamily IPv4 -DestinationPrefix "$address/32" -ErrorAction SilentlyContinue
    $right = $there | Where-Object { $_.NextHop -eq $way.NextHop -and $_.ifIndex -eq $way.ifIndex }
    if ($right) {
        continue
    }
    if ($there) {
        $there | Remove-NetRoute -Confirm:$false
    }
    try {
        # ActiveStore: a container has no next start to keep it for.
        New-NetRoute -DestinationPrefix "$address/32" -InterfaceIndex $way.ifIndex -NextHop $way.NextHop -PolicyStore ActiveStore | Out-Null
    } catch {
        Stop-With "no route to $address by $($way.NextHop): $($_.Exception.Message) Only ContainerAdministrator may add routes (USER in the Dockerfile)."
    }
}
