// A vCenter that is not ours: govmomi's simulator over TLS, for the tests beside this file.
//
// Prints one line of JSON when it listens and ends when standard input does. govmomi's simulator
// knows no console tickets; those of its machines are added here.
package main

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

type machine struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
	Moid string `json:"moid"`
	Host string `json:"host"`
}

type ready struct {
	Host       string    `json:"host"`
	Port       string    `json:"port"`
	Username   string    `json:"username"`
	Password   string    `json:"password"`
	Thumbprint string    `json:"thumbprint"`
	Machines   []machine `json:"machines"`
}

// consoleVM is a machine that gives tickets while it runs.
// The embedding is by value, for that is how the simulator finds a machine's properties.
type consoleVM struct {
	simulator.VirtualMachine
	issued int
}

func (vm *consoleVM) AcquireTicket(request *types.AcquireTicket) soap.HasFault {
	answer := new(methods.AcquireTicketBody)
	state := vm.Runtime.PowerState
	switch {
	case state != types.VirtualMachinePowerStatePoweredOn:
		answer.Fault_ = simulator.Fault("not running", &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOn,
			ExistingState:  state,
		})
	case request.TicketType != "mks" && request.TicketType != "webmks":
		answer.Fault_ = simulator.Fault("unknown type", &types.InvalidArgument{
			InvalidProperty: "ticketType",
		})
	default:
		vm.issued++
		host := simulator.Map.Get(*vm.Runtime.Host).(*simulator.HostSystem)
		answer.Res = &types.AcquireTicketResponse{
			Returnval: types.VirtualMachineTicket{
				Ticket:  fmt.Sprintf("%s-%d", vm.Self.Value, vm.issued),
				CfgFile: vm.Config.Files.VmPathName,
				Host:    host.Name,
				Port:    443,
			},
		}
	}
	return answer
}

func main() {
	model := simulator.VPX()
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	defer model.Remove()

	var machines []machine
	for _, entity := range simulator.Map.All("VirtualMachine") {
		vm := entity.(*simulator.VirtualMachine)
		host := simulator.Map.Get(*vm.Runtime.Host).(*simulator.HostSystem)
		machines = append(machines, machine{vm.Name, vm.Config.InstanceUuid, vm.Self.Value, host.Name})
		simulator.Map.Put(&consoleVM{VirtualMachine: *vm})
	}

	model.Service.TLS = new(tls.Config)
	model.Service.Listen = &url.URL{
		Host: "127.0.0.1:0",
		User: url.UserPassword("nova@vsphere.local", "s3cret"),
	}
	server := model.Service.NewServer()
	defer server.Close()

	digest := sha256.Sum256(server.Certificate().Raw)
	password, _ := server.URL.User.Password()
	err := json.NewEncoder(os.Stdout).Encode(ready{
		Host:       server.URL.Hostname(),
		Port:       server.URL.Port(),
		Username:   server.URL.User.Username(),
		Password:   password,
		Thumbprint: hex.EncodeToString(digest[:]),
		Machines:   machines,
	})
	if err != nil {
		log.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}
