package example

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// control asks the control interface of `taskcreds exec --control`.
func control(t *testing.T, method, path, body string) (answer struct{ Entries []struct{ Status int } }) {
	t.Helper()
	request, err := http.NewRequest(method, os.Getenv("TASKCREDS_CONTROL")+path, bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s (%v)", method, path, response.Status, err)
	}
	return answer
}

// client is a client with the SDK's whole default chain, and a function that tells its access key id.
func client(t *testing.T) (*sts.Client, func() string) {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return sts.NewFromConfig(cfg), func() string {
		credentials, err := cfg.Credentials.Retrieve(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return credentials.AccessKeyID
	}
}

func whoAmI(t *testing.T, client *sts.Client) {
	t.Helper()
	identity, err := client.GetCallerIdentity(context.Background(), &sts.GetCallerIdentityInput{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(*identity.Arn, ":assumed-role/demo/") {
		t.Fatal(*identity.Arn)
	}
}

func TestANewSessionIsPickedUp(t *testing.T) {
	client, key := client(t)
	before := key()
	control(t, "POST", "/tasks/exec/expire", "") // the one before is worth nothing from here on
	whoAmI(t, client)
	if key() == before {
		t.Fatal("the session is still the one before")
	}
}

func TestTwoFailuresAreRiddenOut(t *testing.T) {
	control(t, "DELETE", "/journal", "")
	control(t, "PUT", "/faults", `{"faults": ["exec:status=503,times=2"]}`)
	t.Cleanup(func() { control(t, "DELETE", "/faults", "") })
	client, _ := client(t)
	whoAmI(t, client)
	var statuses []int
	for _, entry := range control(t, "GET", "/journal?task=exec&place=credentials", "").Entries {
		statuses = append(statuses, entry.Status)
	}
	if len(statuses) < 3 || !slices.Equal(statuses[:3], []int{503, 503, 200}) {
		t.Fatal(statuses)
	}
}
