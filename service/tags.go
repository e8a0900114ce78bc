package service

import (
	"context"
	"slices"
	"strings"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

const (
	maxTags = 50 // for one key; AWS page "Tagging your AWS resources"

	msgReservedTag = "Tags beginning with aws: are reserved"
)

// Tag is a key's tag (AWS page "Tags in AWS KMS").
type Tag struct {
	TagKey   string `shape:"TagKeyType" required:"true"`
	TagValue string `shape:"TagValueType" required:"true"`
}

// TagResourceRequest is the input of TagResource.
type TagResourceRequest struct {
	KeyId string `shape:"KeyIdType" required:"true"`
	Tags  []Tag  `shape:"TagList" required:"true"`
}

// TagResource adds tags to a key, or changes their values.
func (s *Service) TagResource(ctx context.Context, c *iam.Caller, in *TagResourceRequest) (*Empty, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	r := keyRequest{operation: "TagResource", keyID: in.KeyId, policyInput: policyInput{tags: in.Tags}}
	return s.change(ctx, c, r, func(k *Key) error {
		for _, t := range in.Tags {
			if i := slices.IndexFunc(k.Tags, func(old Tag) bool { return old.TagKey == t.TagKey }); i >= 0 {
				k.Tags[i] = t
			} else {
				k.Tags = append(k.Tags, t)
			}
		}
		if len(k.Tags) > maxTags {
			return apierror.New(apierror.Tag, "Too many tags")
		}
		return nil
	})
}

// UntagResourceRequest is the input of UntagResource.
type UntagResourceRequest struct {
	KeyId   string   `shape:"KeyIdType" required:"true"`
	TagKeys []string `shape:"TagKeyList" required:"true"`
}

// UntagResource removes tags from a key. Tags that the key does not have are ignored.
func (s *Service) UntagResource(ctx context.Context, c *iam.Caller, in *UntagResourceRequest) (*Empty, error) {
	if slices.ContainsFunc(in.TagKeys, reservedTag) {
		return nil, apierror.New(apierror.Tag, msgReservedTag)
	}
	r := keyRequest{operation: "UntagResource", keyID: in.KeyId, policyInput: policyInput{conditions: in}}
	return s.change(ctx, c, r, func(k *Key) error {
		k.Tags = slices.DeleteFunc(k.Tags, func(t Tag) bool { return slices.Contains(in.TagKeys, t.TagKey) })
		return nil
	})
}

func (in *UntagResourceRequest) condition(key string, _ *Key) []string {
	if key == "aws:tagkeys" {
		return in.TagKeys
	}
	return nil
}

func reservedTag(key string) bool { return len(key) >= 4 && strings.EqualFold(key[:4], "aws:") }

func checkTags(tags []Tag) error {
	seen := map[string]bool{}
	for _, t := range tags {
		if reservedTag(t.TagKey) {
			return apierror.New(apierror.Tag, msgReservedTag)
		}
		if seen[t.TagKey] {
			return apierror.New(apierror.Tag, "Duplicate tag keys")
		}
		seen[t.TagKey] = true
	}
	if len(tags) > maxTags {
		return apierror.New(apierror.Tag, "Too many tags")
	}
	return nil
}

// ListResourceTagsRequest is the input of ListResourceTags.
type ListResourceTagsRequest struct {
	KeyId  string `shape:"KeyIdType" required:"true"`
	Limit  int32  `shape:"LimitType"`
	Marker string `shape:"MarkerType"`
}

// ListResourceTagsResponse is the output of ListResourceTags.
type ListResourceTagsResponse struct {
	Tags       []Tag
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// ListResourceTags returns a key's tags, in order of their keys.
func (s *Service) ListResourceTags(
	ctx context.Context, c *iam.Caller, in *ListResourceTagsRequest,
) (*ListResourceTagsResponse, error) {
	k, err := s.keyFor(ctx, c, keyRequest{operation: "ListResourceTags", keyID: in.KeyId})
	if err != nil {
		return nil, err
	}
	p, err := newPage("ListResourceTags", in.Limit, in.Marker)
	if err != nil {
		return nil, err
	}
	out := &ListResourceTagsResponse{}
	out.Tags, out.NextMarker = pageOf(p, k.Tags, func(t Tag) string { return t.TagKey })
	out.Truncated = out.NextMarker != ""
	return out, nil
}
