// Command go1 is a client with aws-sdk-go, the first.
package main

import (
	"log"
	"os"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/sts"

	"taskcreds-conformance/answer"
)

func main() {
	ses, err := session.NewSession()
	if err != nil {
		log.Fatal(err)
	}
	// It does not know AWS_ENDPOINT_URL_STS.
	client := sts.New(ses, aws.NewConfig().WithEndpoint(os.Getenv("CONFORMANCE_STS")))
	answer.Lines(func() (string, error) {
		out, err := client.GetCallerIdentity(&sts.GetCallerIdentityInput{})
		if err != nil {
			return "", err
		}
		return aws.StringValue(out.Arn), nil
	})
}
