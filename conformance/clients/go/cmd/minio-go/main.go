// Command minio-go is a client with MinIO's S3 client.
package main

import (
	"context"
	"log"
	"net/url"
	"os"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"taskcreds-conformance/answer"
)

func main() {
	s3, err := url.Parse(os.Getenv("CONFORMANCE_S3"))
	if err != nil {
		log.Fatal(err)
	}
	client, err := minio.New(s3.Host, &minio.Options{
		Creds:        credentials.NewIAM(""),
		Secure:       s3.Scheme == "https",
		Region:       os.Getenv("AWS_REGION"),
		BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		log.Fatal(err)
	}
	answer.Lines(func() (string, error) {
		for object := range client.ListObjects(context.Background(), "conformance", minio.ListObjectsOptions{}) {
			if object.Err != nil {
				return "", object.Err
			}
		}
		return "", nil
	})
}
